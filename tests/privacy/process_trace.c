/* Preloaded into a process and its children: logs name look-ups, connections and changed files, of native code too.

   Every look-up of a name and every connection that leaves the machine is logged and refused, so that a test sends
   nothing. A line of the log is KIND TAB TEXT; KIND is lookup, connect or write. The log is the file HEADSTART_TRACE. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name)                                                                                                     \
    ({                                                                                                                 \
        if (real_##name == NULL) real_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                             \
        real_##name;                                                                                                   \
    })

/* System calls here, not functions: what the log itself does must not be logged. */
static void note(const char *kind, const char *text) {
    const char *path = getenv("HEADSTART_TRACE");
    char line[PATH_MAX + 64];
    int before = errno, length, file;
    if (path == NULL) return;
    length = snprintf(line, sizeof line, "%s\t%s\n", kind, text);
    if (length >= (int)sizeof line) length = (int)sizeof line - 1;
    file = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0) {
        if (syscall(SYS_write, file, line, (size_t)length) < 0) abort();
        syscall(SYS_close, file);
    }
    errno = before;
}

static void note_path(int folder, const char *path) {
    char base[PATH_MAX] = "", full[2 * PATH_MAX], link[64];
    if (path == NULL) return;
    if (path[0] != '/') {
        ssize_t length = -1;
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        length = readlink(link, base, sizeof base - 1);
        base[length < 0 ? 0 : length] = 0;
        snprintf(full, sizeof full, "%s/%s", base, path);
        path = full;
    }
    note("write", path);
}

/* -- files */

static int is_writing(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }

static mode_t mode_of(int flags, va_list rest) {
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? (mode_t)va_arg(rest, int) : 0;
}

#define OPEN(name)                                                                                                     \
    static int (*real_##name)(const char *, int, ...);                                                                \
    int name(const char *path, int flags, ...) {                                                                      \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = mode_of(flags, rest);                                                                            \
        va_end(rest);                                                                                                  \
        int result = REAL(name)(path, flags, mode);                                                                    \
        if (result >= 0 && is_writing(flags)) note_path(AT_FDCWD, path);                                              \
        return result;                                                                                                 \
    }
#define OPENAT(name)                                                                                                   \
    static int (*real_##name)(int, const char *, int, ...);                                                           \
    int name(int folder, const char *path, int flags, ...) {                                                          \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = mode_of(flags, rest);                                                                            \
        va_end(rest);                                                                                                  \
        int result = REAL(name)(folder, path, flags, mode);                                                            \
        if (result >= 0 && is_writing(flags)) note_path(folder, path);                                                \
        return result;                                                                                                 \
    }
OPEN(open)
OPEN(open64)
OPEN(__open_2)
OPEN(__open64_2)
OPENAT(openat)
OPENAT(openat64)
OPENAT(__openat_2)
OPENAT(__openat64_2)

#define FOPEN(name)                                                                                                    \
    static FILE *(*real_##name)(const char *, const char *);                                                          \
    FILE *name(const char *path, const char *mode) {                                                                  \
        FILE *result = REAL(name)(path, mode);                                                                         \
        if (result != NULL && strpbrk(mode, "wa+") != NULL) note_path(AT_FDCWD, path);                                \
        return result;                                                                                                 \
    }
FOPEN(fopen)
FOPEN(fopen64)

#define CALL(name, folder, path, parameters, arguments)                                                                \
    static int(*real_##name) parameters;                                                                              \
    int name parameters {                                                                                             \
        int result = REAL(name) arguments;                                                                             \
        if (result >= 0) note_path(folder, path);                                                                      \
        return result;                                                                                                 \
    }
CALL(creat, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
CALL(creat64, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
CALL(mkdir, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
CALL(mkdirat, folder, path, (int folder, const char *path, mode_t mode), (folder, path, mode))
CALL(mkfifo, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
CALL(rename, AT_FDCWD, to, (const char *from, const char *to), (from, to))
CALL(renameat, folder, to, (int other, const char *from, int folder, const char *to), (other, from, folder, to))
CALL(renameat2, folder, to, (int other, const char *from, int folder, const char *to, unsigned int flags),
     (other, from, folder, to, flags))
CALL(link, AT_FDCWD, to, (const char *from, const char *to), (from, to))
CALL(linkat, folder, to, (int other, const char *from, int folder, const char *to, int flags),
     (other, from, folder, to, flags))
CALL(symlink, AT_FDCWD, to, (const char *from, const char *to), (from, to))
CALL(symlinkat, folder, to, (const char *from, int folder, const char *to), (from, folder, to))
CALL(truncate, AT_FDCWD, path, (const char *path, off_t length), (path, length))
CALL(unlink, AT_FDCWD, path, (const char *path), (path))
CALL(unlinkat, folder, path, (int folder, const char *path, int flags), (folder, path, flags))
CALL(rmdir, AT_FDCWD, path, (const char *path), (path))
CALL(remove, AT_FDCWD, path, (const char *path), (path))

/* -- names */

static int is_here(const char *name) {
    unsigned char address[sizeof(struct in6_addr)];
    return name == NULL || strcmp(name, "localhost") == 0 || inet_pton(AF_INET, name, address) == 1 ||
           inet_pton(AF_INET6, name, address) == 1;
}

static int (*real_getaddrinfo)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    if (is_here(name)) return REAL(getaddrinfo)(name, service, hints, result);
    note("lookup", name);
    return EAI_AGAIN;
}

#define BY_NAME(name, parameters, arguments)                                                                           \
    static struct hostent *(*real_##name) parameters;                                                                 \
    struct hostent *name parameters {                                                                                 \
        if (is_here(host)) return REAL(name) arguments;                                                                \
        note("lookup", host);                                                                                          \
        h_errno = TRY_AGAIN;                                                                                           \
        return NULL;                                                                                                   \
    }
BY_NAME(gethostbyname, (const char *host), (host))
BY_NAME(gethostbyname2, (const char *host, int family), (host, family))

int gethostbyname_r(const char *host, struct hostent *entry, char *buffer, size_t length, struct hostent **result,
                    int *error) {
    static int (*real_gethostbyname_r)(const char *, struct hostent *, char *, size_t, struct hostent **, int *);
    if (is_here(host)) return REAL(gethostbyname_r)(host, entry, buffer, length, result, error);
    note("lookup", host);
    *result = NULL;
    *error = TRY_AGAIN;
    return EAGAIN;
}

int gethostbyname2_r(const char *host, int family, struct hostent *entry, char *buffer, size_t length,
                     struct hostent **result, int *error) {
    static int (*real_gethostbyname2_r)(const char *, int, struct hostent *, char *, size_t, struct hostent **, int *);
    if (is_here(host)) return REAL(gethostbyname2_r)(host, family, entry, buffer, length, result, error);
    note("lookup", host);
    *result = NULL;
    *error = TRY_AGAIN;
    return EAGAIN;
}

#define QUERY(name)                                                                                                    \
    int name(const char *host, int class, int type, unsigned char *answer, int length) {                              \
        (void)class, (void)type, (void)answer, (void)length;                                                          \
        note("lookup", host);                                                                                          \
        h_errno = TRY_AGAIN;                                                                                           \
        return -1;                                                                                                     \
    }
QUERY(res_query)
QUERY(res_search)
QUERY(__res_query)
QUERY(__res_search)

#define STATE_QUERY(name)                                                                                              \
    int name(void *state, const char *host, int class, int type, unsigned char *answer, int length) {                 \
        (void)state, (void)class, (void)type, (void)answer, (void)length;                                             \
        note("lookup", host);                                                                                          \
        h_errno = TRY_AGAIN;                                                                                           \
        return -1;                                                                                                     \
    }
STATE_QUERY(res_nquery)
STATE_QUERY(res_nsearch)
STATE_QUERY(__res_nquery)
STATE_QUERY(__res_nsearch)

/* -- connections */

static int leaves(const struct sockaddr *address) {
    char text[INET6_ADDRSTRLEN + 16] = "", host[INET6_ADDRSTRLEN] = "";
    if (address == NULL) return 0;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)address;
        if (ntohl(four->sin_addr.s_addr) >> 24 == 127) return 0;
        inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
        snprintf(text, sizeof text, "%s:%d", host, ntohs(four->sin_port));
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        if (IN6_IS_ADDR_LOOPBACK(&six->sin6_addr)) return 0;
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        snprintf(text, sizeof text, "%s:%d", host, ntohs(six->sin6_port));
    } else {
        return 0;
    }
    note("connect", text);
    errno = ENETUNREACH;
    return 1;
}

static int (*real_connect)(int, const struct sockaddr *, socklen_t);
int connect(int socket, const struct sockaddr *address, socklen_t length) {
    return leaves(address) ? -1 : REAL(connect)(socket, address, length);
}

static ssize_t (*real_sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
ssize_t sendto(int socket, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
    return leaves(address) ? -1 : REAL(sendto)(socket, data, size, flags, address, length);
}

static ssize_t (*real_sendmsg)(int, const struct msghdr *, int);
ssize_t sendmsg(int socket, const struct msghdr *message, int flags) {
    return leaves(message->msg_name) ? -1 : REAL(sendmsg)(socket, message, flags);
}

static int (*real_sendmmsg)(int, struct mmsghdr *, unsigned int, int);
int sendmmsg(int socket, struct mmsghdr *messages, unsigned int count, int flags) {
    for (unsigned int i = 0; i < count; i++)
        if (leaves(messages[i].msg_hdr.msg_name)) return -1;
    return REAL(sendmmsg)(socket, messages, count, flags);
}

"""Read images from containers: arrays, parquet and arrow files, tar shards and objects in memory.

Every container becomes one thing, a stored table (`store.StoredTable`): its encoded images in one file in the cache
folder (`preprocessing.packed_files`), under a key of the content, and one row of text per image. The reader of
tables then finds labels, splits and groups (`reader.read_stored`). A sample is named by its place in the container,
e.g. `data.npz#12`, so that resumed runs, evaluations and reports name it alike.

Images are stored, not read in place: all later steps (decoding in threads, caches keyed by content, duplicates,
reports, bundles) read the bytes of one image at a time, in any order, which a parquet row group, a compressed tar or
a deflated array cannot give without decoding the rest. One file takes 0.2 s for 10,000 images, 10,000 files take
10 s. Archives of folders are unpacked as files (`data.archives`), since the reader of folders reads folders.

The cost is disk space, which is bounded (`store.MAX_STORED_BYTES`): what was not used for a day is deleted first,
and stored again when it is needed. Objects in memory cannot be stored again; they are kept until
`headstart cache clear`.
"""

"""What a frozen backbone says about every image: computed once by the fastest engine, and cached."""

"""What a frozen backbone says about every picture: computed once by the fastest engine, and cached."""

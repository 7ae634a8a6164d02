"""Files that other libraries write with their own code, a script a library, for the tests of `formats`."""

"""Apply a generator to images of any size, in tiles that give what the whole would."""

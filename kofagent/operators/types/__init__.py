"""One operator a file, named as its type: `OPERATOR` at the end names the class. The file is all that a new operator needs."""

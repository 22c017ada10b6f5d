/* sPyNNaker's makefiles want headers of parts that these cores have not. */

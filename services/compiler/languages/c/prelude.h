/* Included before the first line of every function in C, so that a handle of another type is an error in the user's own file. */
#include <kiln.h>

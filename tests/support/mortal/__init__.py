"""The processes of a sandbox whose workers die of one input, as of a fault in Wasmtime that a guest had found."""

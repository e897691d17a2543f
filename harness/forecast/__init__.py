"""The cost of a sweep before anything is computed: conditions, FLOPs, time and memory."""

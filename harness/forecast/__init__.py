"""What a sweep will take: conditions, FLOPs, time and memory, before anything is computed."""

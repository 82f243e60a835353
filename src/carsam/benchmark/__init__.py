"""Speed and memory of engines and of other runtimes, each in a process of its own."""

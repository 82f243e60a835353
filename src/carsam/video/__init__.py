"""Following objects through a video: frames in, masks out, with any engine that has a memory."""

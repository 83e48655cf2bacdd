"""vmr: finds music for a video, and videos for a piece of music, from their content alone."""

"""Who listens to what a command tells its reporter."""


class Listener:
    """Keeps what it is told."""

    def __init__(self):
        self.warnings, self.stages, self.steps = [], [], 0

    def start(self, description, total):
        self.stages.append((description, total))

    def advance(self, steps=1, note=""):
        self.steps += steps

    def finish(self): ...

    def warn(self, message):
        self.warnings.append(message)

    def info(self, message): ...

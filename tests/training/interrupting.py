"""A training that is interrupted at a step, as if its process were killed."""

from inpars.progress import Silent


class Interrupting(Silent):
    """Raises KeyboardInterrupt at step `interrupt_at`, if given; records steps and notes."""

    def __init__(self, interrupt_at=None):
        self.step, self.interrupt_at, self.notes, self.total, self.done = 0, interrupt_at, [], None, None

    def track(self, items, *, total, description, unit, done=0):
        self.total, self.done = total, done
        yield from items

    def advance(self, count, detail=""):
        self.step += count
        if self.step == self.interrupt_at:
            raise KeyboardInterrupt

    def note(self, message):
        self.notes.append(message)

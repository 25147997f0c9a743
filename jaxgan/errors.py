"""What can go wrong in a run, each with the exit code that the shell sees."""

from collections.abc import Sequence


class RunError(Exception):
    """A reason to end a run; `exit_code` is what the process returns."""

    exit_code = 1


class UserError(RunError):
    """Bad flags or bad data: lists every problem, so that one look mends them all."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]):
        """Takes one problem or a list of them, each naming file, fault and cure."""
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        count = len(self.problems)
        if count == 1:
            message = self.problems[0]
        else:
            lines = (f"  {i}. {problem}" for i, problem in enumerate(self.problems, 1))
            message = "\n".join([f"{count} problems:", *lines])
        super().__init__(message)


class NonFiniteError(RunError):
    """A loss became NaN or infinite; nothing of it was saved."""

    exit_code = 3


class Preempted(RunError):
    """A signal asked the run to end; the state was saved at a step boundary."""

    exit_code = 143

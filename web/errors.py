"""The one error of the web room."""


class ApiError(Exception):
    """A request that is refused: a code of the table in `web.messages` and the facts that its sentence states."""

    def __init__(self, code: str, **facts: object) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts

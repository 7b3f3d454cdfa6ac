"""The command line: `pag generate`, `pag compare`, `pag layers`, `pag info`.

Nothing here imports torch before a command needs it, so that help, versions and mistakes cost no wait.
"""

from pag.cli.app import app

__all__ = ["app"]

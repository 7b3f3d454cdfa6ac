"""Pictures that depend on their settings alone: draw them, keep the settings in the file, read them back.

The command line and the web page are thin layers over this package; it knows no terminal.
"""

from pag.generate.comparison import Comparison
from pag.generate.errors import UserError
from pag.generate.settings import Picture, Sampling

__all__ = ["Comparison", "Picture", "Sampling", "UserError"]

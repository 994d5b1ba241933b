"""The verbs of the job as functions, with the arguments of their commands: `from fanfold.tls.api import sizes`.

`measure` is `fanfold.run(Tls(), source=grid, database=database)`, and `plan` is `fanfold.preview` of the same. Each is
imported when it is first used, because some need packages of the extra `tls`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fanfold.tls.analysis.analyze import analyze
    from fanfold.tls.article import claims
    from fanfold.tls.model import model
    from fanfold.tls.probe.known import known
    from fanfold.tls.probe.probe import probe
    from fanfold.tls.report.claims import judged
    from fanfold.tls.report.write import report
    from fanfold.tls.serve.server import Server
    from fanfold.tls.serve.settings import settings
    from fanfold.tls.sizes import sizes

__all__ = ["Server", "analyze", "claims", "judged", "known", "model", "probe", "report", "settings", "sizes"]

_MODULES = {
    "Server": "serve.server",
    "analyze": "analysis.analyze",
    "claims": "article",
    "judged": "report.claims",
    "known": "probe.known",
    "model": "model",
    "probe": "probe.probe",
    "report": "report.write",
    "settings": "serve.settings",
    "sizes": "sizes",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"fanfold.tls.{_MODULES[name]}"), name)

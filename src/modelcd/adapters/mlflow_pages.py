"""MLflow's pages, behind our guard: `python -m modelcd.adapters.mlflow_pages STORE PORT TOKEN_FILE`.

`mlflow server` gives its application the same settings by the same variables, and starts it as a process of its own,
which nothing could be put in front of.  The credential comes from a file: arguments can be seen by every user.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mlflow.server import constants

from modelcd.adapters.guard import server


def main(store: str, port: int, token_file: Path) -> None:
    """Serve the pages of *store* until told to stop."""
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: store,
        constants.REGISTRY_STORE_URI_ENV_VAR: store,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(f"{name}*" for name in ("127.0.0.1", "localhost")),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(store, store, "mlflow-artifacts:/")
    server(app, port, token_file.read_text(encoding="ascii")).run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))

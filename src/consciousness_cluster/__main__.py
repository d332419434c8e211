"""`python -m consciousness_cluster` is `ccluster`."""

from __future__ import annotations

from consciousness_cluster.cli import main

if __name__ == "__main__":
    main()

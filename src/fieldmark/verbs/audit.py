"""`check`: a table in, its faults out, and a page that shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fieldmark.cores import num_cores
from fieldmark.data.audit.auditing import Audit, audit_table
from fieldmark.data.audit.crops import Geometry
from fieldmark.data.audit.deep import DeepAudit, Network, describe_deep_audit
from fieldmark.data.audit.findings import Finding, describe_audit
from fieldmark.data.sources import read_table
from fieldmark.data.table import Table

Progress = Callable[[int, int], None]
MOST_THREADS = 8


@dataclass(frozen=True)
class Check:
    """An audit, and what a network added to it, where one was asked."""

    audit: Audit
    deep: DeepAudit | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Both in sentences, those to fix first."""
        added = () if self.deep is None else describe_deep_audit(self.deep)
        found = [*added, *describe_audit(self.audit)]
        return tuple(
            sorted(found, key=lambda finding: ("fix", "look", "fine").index(finding.level))
        )

    def save_page(self, path: str | Path) -> Path:
        """Write the page; a file there that is no page of an audit is refused."""
        from fieldmark.reporting.audit_page import save_audit_page

        return save_audit_page(Path(path), self.audit, self.deep, self.findings)


def check(
    data: Table | str | Path,
    *,
    geometry: Geometry | None = None,
    network: Network | None = None,
    progress: Progress | None = None,
) -> Check:
    """Look for faults in labelled images; nothing is changed.

    `geometry` is how a recipe would cut them. With a `network`, labels that look wrong and copies
    that only a network sees are looked for too (minutes on a CPU); `progress` then counts twice.
    """
    if network is not None:
        from fieldmark.planning.deep_audit import check_packages

        check_packages()  # before the work, not after it
    table = data if isinstance(data, Table) else read_table(data)
    audit = audit_table(
        table, geometry, num_threads=min(num_cores(), MOST_THREADS), progress=progress
    )
    if network is None:
        return Check(audit)
    from fieldmark.planning.deep_audit import audit_deeply

    return Check(audit, audit_deeply(audit, network, progress=progress))

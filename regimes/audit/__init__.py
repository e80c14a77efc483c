"""Are kept results what their rows say, and were their predictions made before the rows? Checked against git."""

from regimes.audit.check import Audit as Audit
from regimes.audit.check import audit as audit
from regimes.audit.check import report as report

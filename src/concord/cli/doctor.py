from concord.cli.common import AsJson
from concord.cli.console import print_json


def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, present and missing, and which device would be used."""
    from concord.cli.findings import examine, show_doctor

    findings = examine()
    if as_json:
        print_json({"findings": {heading: [vars(one) for one in group] for heading, group in findings.items()}})
    else:
        show_doctor(findings)

"""What `cdk deploy` runs: reads the settings, and makes the two stacks.

    NAME-Storage   what stays      bucket, DynamoDB table
         ▲
    NAME-Compute   what runs       network, AWS Batch, Lambda, alarms, dashboard

Names cross in one direction only, so that `cdk destroy NAME-Compute` takes everything down but the data. That is why
the Lambda, which needs the queue, lives above and not beside the bucket it reads.
"""

import os
import sys

try:
    from fanfold.errors import FanfoldError
    from fanfold.job import required_extra
except ModuleNotFoundError:  # some other Python than that of the project's environment
    sys.exit("fanfold: it is not installed for this `python`. Type: make .venv/deploy && source .venv/bin/activate")

try:
    from aws_cdk import App, Tags, Validations
    from cdk_nag import AwsSolutionsChecks
except ModuleNotFoundError as error:
    sys.exit(str(required_extra(error, "cdk", ("aws_cdk", "cdk_nag", "constructs"), "The deployment")))

from infra.compute import Compute
from infra.gpus import check_region
from infra.settings import Settings
from infra.storage import Storage


def build(app: App) -> tuple[Storage, Compute]:
    """Make the stacks that an app's context asks for, to be checked when they are synthesised.

    Raises UsageError for a context value that is not understood, and for one that the region cannot have.
    """
    settings = Settings.of(app.node)
    if settings.compute == "gpu":
        check_region(os.environ.get("CDK_DEFAULT_REGION", ""))  # set by the CDK's command line
    storage = Storage(app, settings)
    compute = Compute(app, settings, storage)
    Tags.of(app).add("fanfold", settings.name)
    Validations.of(app).add_plugins(AwsSolutionsChecks())
    return storage, compute


def main() -> None:
    """Write the templates for the CDK's command line, or show a one-line error."""
    app = App()
    try:
        build(app)
    except FanfoldError as error:
        sys.exit(f"fanfold: {error}")
    app.synth()


if __name__ == "__main__":
    main()

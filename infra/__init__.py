"""The deployment on AWS, as an app of the CDK: `cdk deploy --all` in the project's root runs `infra.app`."""

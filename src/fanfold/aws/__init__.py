"""The AWS side: the article's architecture of S3, Lambda, AWS Batch and DynamoDB, on fanfold's core.

Importing this package imports no library of AWS. Each module has its own error for a missing extra `aws`.
"""

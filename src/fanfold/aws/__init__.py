"""The AWS side: the article's architecture of S3, Lambda, AWS Batch and DynamoDB, on fanfold's core.

Importing this package imports nothing of AWS: each module says itself when the extra `aws` is absent.
"""

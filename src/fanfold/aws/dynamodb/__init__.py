"""DynamoDB tables that mirror a Lance table."""

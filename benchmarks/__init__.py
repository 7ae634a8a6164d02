"""What training costs, beside other libraries."""

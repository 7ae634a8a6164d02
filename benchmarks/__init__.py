"""What training costs, measured beside other libraries."""

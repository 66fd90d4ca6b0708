"""The cards of models: what a README says of a tuned model, and how it goes with copies in other forms."""

"""The labels wing: label sets and their distribution, its covariance spectrum, designs and sampling weights."""

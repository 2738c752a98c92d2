"""Transactions, decisions and labels."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the three tables."""
    op.create_table(
        "transactions",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        sa.Column("transaction_id", sa.String, nullable=False, unique=True),
        sa.Column("effective_us", sa.BigInteger, nullable=False),
        sa.Column("observed_us", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("seq", _SEQ, sa.ForeignKey("transactions.seq"), primary_key=True, autoincrement=False),
        sa.Column("bundle", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("features", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "labels",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("transaction_id", sa.String, nullable=False, index=True),
        sa.Column("is_fraud", sa.Boolean, nullable=False),
        sa.Column("available_us", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.UniqueConstraint("transaction_id", "source", "available_us"),
    )


def downgrade() -> None:
    """Drop the three tables."""
    op.drop_table("labels")
    op.drop_table("decisions")
    op.drop_table("transactions")

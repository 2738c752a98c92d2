"""Transactions with their decisions in groups, labels, and what the ledger keeps about itself."""

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
        "groups",
        sa.Column("first", _SEQ, primary_key=True, autoincrement=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("observed_us", sa.BigInteger, nullable=False),
        sa.Column("least_us", sa.BigInteger, nullable=False),
        sa.Column("most_us", sa.BigInteger, nullable=False),
        sa.Column("bundle", sa.String),
        sa.Column("approve", sa.Integer, nullable=False),
        sa.Column("review", sa.Integer, nullable=False),
        sa.Column("block", sa.Integer, nullable=False),
        sa.Column("degraded", sa.Integer, nullable=False),
        sa.Column("id_hashes", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        postgresql_partition_by="RANGE (first)",
    )
    if op.get_bind().dialect.name == "postgresql":
        # A decision does not wait for a compression, and a scan of hashes touches no payload.
        op.execute("ALTER TABLE groups ALTER payload SET STORAGE EXTERNAL, ALTER id_hashes SET STORAGE MAIN")
    op.create_table(
        "labels",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("transaction_id", sa.String, nullable=False, index=True),
        sa.Column("is_fraud", sa.Boolean, nullable=False),
        sa.Column("available_us", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.UniqueConstraint("transaction_id", "source", "available_us"),
    )
    op.create_table(
        "settings",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Drop the three tables."""
    op.drop_table("settings")
    op.drop_table("labels")
    op.drop_table("groups")

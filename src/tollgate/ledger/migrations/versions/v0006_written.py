"""PostgreSQL, for several writers: which of them recorded a group."""

import sqlalchemy as sa
from alembic import op

from tollgate.ledger.migrations.versions.v0004_shared import APPEND

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NAMED = APPEND.replace("    keys bytea[],", "    by_name varchar, keys bytea[],").replace(
    "    UPDATE arrivals", "    INSERT INTO written VALUES (by_name, first_one);\n    UPDATE arrivals"
)


def upgrade() -> None:
    """Create the table, and replace the function by one that fills it."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "written",
        sa.Column("writer", sa.String, primary_key=True),
        sa.Column("first", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    op.execute("DROP FUNCTION append_group")
    op.execute(_NAMED)


def downgrade() -> None:
    """Drop the table, and make the function as it was."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION append_group")
        op.execute(APPEND)
        op.drop_table("written")

"""Labels in the order of the ledger: after which transaction each was recorded, when, and by whom."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COLUMNS = ("recorded_by", "recorded_us", "recorded_after", "number")


def upgrade() -> None:
    """Add the columns; the database then refuses to change or delete a label."""
    op.add_column("labels", sa.Column("number", sa.BigInteger))
    op.add_column("labels", sa.Column("recorded_after", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("labels", sa.Column("recorded_us", sa.BigInteger))
    op.add_column("labels", sa.Column("recorded_by", sa.String))
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER labels_no_{verb.lower()} BEFORE {verb} ON labels "
                "BEGIN SELECT RAISE(ABORT, 'labels are only ever added to'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION labels_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'labels are only ever added to'; END $$"
        )
        op.execute(
            "CREATE TRIGGER labels_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON labels "
            "FOR EACH STATEMENT EXECUTE FUNCTION labels_refuse()"
        )


def downgrade() -> None:
    """Drop the columns."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("update", "delete"):
            op.execute(f"DROP TRIGGER labels_no_{verb}")
    else:
        op.execute("DROP TRIGGER labels_no_change ON labels")
        op.execute("DROP FUNCTION labels_refuse")
    for column in _COLUMNS:
        op.drop_column("labels", column)

"""What analysts found of a case, with what they noted; their labels stay where all labels are."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; the database then refuses to change or delete a disposition."""
    op.create_table(
        "dispositions",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("transaction_id", sa.String, nullable=False, index=True),
        sa.Column("disposition", sa.String, nullable=False),
        sa.Column("note", sa.String, nullable=False),
        sa.Column("recorded_us", sa.BigInteger, nullable=False),
        sa.Column("recorded_by", sa.String, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER dispositions_no_{verb.lower()} BEFORE {verb} ON dispositions "
                "BEGIN SELECT RAISE(ABORT, 'dispositions are only ever added to'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION dispositions_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'dispositions are only ever added to'; END $$"
        )
        op.execute(
            "CREATE TRIGGER dispositions_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON dispositions "
            "FOR EACH STATEMENT EXECUTE FUNCTION dispositions_refuse()"
        )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("dispositions")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION dispositions_refuse")

"""PostgreSQL, for several writers: the ids' arrival numbers, the newest of them, and how a group is appended."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Whoever appends locks the row of the newest number until the group is durable: numbers are given out in the order of
# the commits and without gaps, and ids are looked for when all that was appended before can be seen.
APPEND = """
CREATE FUNCTION append_group(
    keys bytea[], new_count integer, observed_us bigint, least_us bigint, most_us bigint, bundle varchar,
    approve integer, review integer, block integer, degraded integer, id_hashes bytea, payload bytea
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    first_one bigint;
BEGIN
    SELECT arrivals.last + 1 INTO STRICT first_one FROM arrivals FOR UPDATE;
    IF EXISTS (SELECT FROM ids WHERE ids.key = ANY (keys)) THEN
        RETURN 0;
    END IF;
    INSERT INTO groups VALUES (
        first_one, new_count, observed_us, least_us, most_us, bundle, approve, review, block, degraded, id_hashes,
        payload
    );
    INSERT INTO ids (key, number)
        SELECT given.key, first_one + given.place - 1 FROM unnest(keys) WITH ORDINALITY AS given (key, place);
    UPDATE arrivals SET last = first_one + new_count - 1;
    RETURN first_one;
END $$
"""


def upgrade() -> None:
    """Create two tables and a function; a ledger on SQLite has one writer and needs none of them."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "ids",
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        postgresql_partition_by="RANGE (number)",
    )
    op.create_table("arrivals", sa.Column("last", sa.BigInteger, nullable=False))
    op.execute("INSERT INTO arrivals VALUES (0)")
    op.execute(APPEND)


def downgrade() -> None:
    """Drop them."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION append_group")
        op.drop_table("arrivals")
        op.drop_table("ids")

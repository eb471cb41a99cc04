"""The schema that everything else stands on; the SQL lies beside this file."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    sql = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    driver_connection = op.get_bind().connection.driver_connection
    # Past SQLAlchemy, which would read the percent signs of format() as parameters.
    driver_connection.execute(sql)

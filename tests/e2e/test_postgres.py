"""The whole server on a real PostgreSQL: started as whoever runs the tests, so also as root with its home closed."""

import pytest

from tests.support.api import create_function, deploy, execute, ok
from tests.support.postgres import running_postgres
from tests.support.runtimes import runtime_of
from tests.support.server import running_server

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]


def test_functions_and_executions_on_postgresql_outlive_a_kill() -> None:
    with running_postgres() as cluster, running_server({"HEARTH_DATABASE_URL": f"{cluster}/postgres"}) as server:
        with server.client() as client:
            create_function(client, "kept", runtime_of("python"), entrypoint="main.py")
            code = "def main(context):\n    return context.res.text(context.req.body_text)\n"
            assert deploy(client, "kept", {"main.py": code})["status"] == "ready"
            before = execute(client, "kept", body="one")
            assert before["responseBody"] == "one"
        assert not (server.data_dir / "hearth.db").exists(), "nothing is kept beside the database it was given"
        server.kill()
        server.start()
        with server.client() as client:
            assert execute(client, "kept", body="two")["responseBody"] == "two"
            listed = ok(client.get("/functions/kept/executions"))
        assert listed["total"] == 2
        assert before["$id"] in [item["$id"] for item in listed["executions"]]

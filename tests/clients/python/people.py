"""People by the official Python SDK: users, teams, sessions, and executions by whoever may; what was seen, as JSON.

Runs in a process of its own with the SDK's folder in PYTHONPATH: `people.py REQUEST_JSON`. The function exists and
answers with the headers it is told of its caller.
"""

import json
import sys

from appwrite.client import Client
from appwrite.exception import AppwriteException
from appwrite.query import Query
from appwrite.services.account import Account
from appwrite.services.functions import Functions
from appwrite.services.teams import Teams
from appwrite.services.users import Users

PASSWORD = "correct horse"


def plain(answer):
    """Older SDKs answer with dictionaries, newer ones with models."""
    return answer if isinstance(answer, dict) else answer.to_dict()


def main(given):
    def client():
        return Client().set_endpoint(given["endpoint"]).set_project(given["project"])

    def attempt(call, *args, **named):
        try:
            return plain(call(*args, **named))
        except AppwriteException as error:
            return {"refused": error.type, "code": error.code}

    server = client().set_key(given["key"])
    users, teams, functions, tag = Users(server), Teams(server), Functions(server), given["tag"]
    ann, bob, team = f"{tag}-ann", f"{tag}-bob", f"{tag}-team"
    seen = {"version": server._global_headers["x-sdk-version"]}

    seen["user"] = plain(users.create(ann, f"{ann}@example.com", None, PASSWORD, "Ann"))
    users.create(bob, f"{bob}@example.com", None, PASSWORD, "Bob")
    users.update_labels(ann, ["vip"])
    users.update_email_verification(ann, True)
    users.update_prefs(ann, {"theme": "dark"})
    prefs = plain(users.get_prefs(ann))
    seen["prefs"] = prefs.get("data", prefs)  # the models of some versions keep free keys in `data`
    seen["found"] = plain(users.list(queries=[Query.equal("email", [f"{ann}@example.com"])]))
    seen["team"] = plain(teams.create(team, "Team"))
    seen["membership"] = plain(teams.create_membership(team, ["player"], user_id=ann))
    seen["members"] = plain(teams.list_memberships(team))
    seen["memberships"] = plain(users.list_memberships(ann))

    # Server-side rendering: the server signs the user in and gets the secret.
    seen["signed_in"] = plain(Account(server).create_email_password_session(f"{ann}@example.com", PASSWORD))
    session = client().set_session(seen["signed_in"]["secret"])
    account = Account(session)
    seen["account"] = plain(account.get())
    seen["sessions"] = plain(account.list_sessions())
    jwt = plain(users.create_jwt(ann))["jwt"]
    bobs = client().set_session(plain(users.create_session(bob))["secret"])
    callers = {
        "key": server,
        "ann": session,
        "ann-jwt": client().set_jwt(jwt),
        "bob": bobs,
        "guest": client(),
    }
    seen["runs"] = {}
    member = seen["membership"]["$id"]
    for execute in (["any"], ["guests"], ["users"], [f"user:{ann}"], [f"team:{team}/player"], ["label:vip"],
                    [f"member:{member}"], []):  # fmt: skip
        functions.update(given["function"], "Who", execute=execute, entrypoint=given["entrypoint"])
        seen["runs"][",".join(execute)] = {
            name: attempt(Functions(caller).create_execution, given["function"]) for name, caller in callers.items()
        }
    seen["own"] = plain(Functions(session).list_executions(given["function"]))
    seen["strange"] = attempt(Teams(bobs).get, team)
    account.delete_session("current")
    seen["signed_out"] = attempt(account.get)
    users.update_status(bob, False)
    seen["blocked"] = attempt(Account(bobs).get)
    teams.delete(team)
    for id in (ann, bob):
        users.delete(id)
    seen["deleted"] = attempt(users.get, ann)
    print(json.dumps(seen))


main(json.loads(sys.argv[1]))

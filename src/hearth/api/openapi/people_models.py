"""Schemas of people: users, sessions, tokens, teams, memberships (see `models`)."""

from hearth.api.openapi.schemas import (
    Schema,
    date,
    flag,
    listing,
    many,
    maybe_date,
    number,
    record,
    resource,
    text,
    texts,
)

_PREFS: Schema = {"type": "object", "description": "Preferences: any JSON object."}

_ACCOUNT: dict[str, Schema] = {
    **resource("User"),
    "name": text("Name."),
    "registration": date("When the user signed up."),
    "status": flag("False: blocked."),
    "labels": texts("Labels."),
    "passwordUpdate": maybe_date("When the password was last set."),
    "email": text("E-mail address; empty: none."),
    "phone": text("Phone number; empty: none."),
    "emailVerification": flag("Whether the address is verified."),
    "phoneVerification": flag("Whether the number is verified."),
    "mfa": flag("Always false: there are no second factors."),
    "prefs": _PREFS,
    "targets": many({}, "Always empty: no messages are sent."),
    "accessedAt": maybe_date("When the user was last here, to the day."),
    "impersonator": flag("Whether the user may act as others."),
    "impersonatorUserId": text("Who acts as this user in this call; empty: nobody."),
}

_HASHING: Schema = {"type": "object", "description": "Parameters of the hash; empty: there is none."}

_SESSION: dict[str, Schema] = {
    **resource("Session"),
    "userId": text("User ID."),
    "expire": date("When it ends."),
    "provider": text("How it began: `email`, `anonymous`, `token` or `server`."),
    "providerUid": text("The user at that provider."),
    "providerAccessToken": text("Always empty."),
    "providerAccessTokenExpiry": maybe_date("Never set."),
    "providerRefreshToken": text("Always empty."),
    "ip": text("Address it was opened from."),
    "osCode": text("Operating system, as a code."),
    "osName": text("Operating system."),
    "osVersion": text("Its version."),
    "clientType": text("Kind of client: `browser` or `library`."),
    "clientCode": text("Client, as a code."),
    "clientName": text("Client."),
    "clientVersion": text("Its version."),
    "clientEngine": text("Its engine."),
    "clientEngineVersion": text("The engine's version."),
    "deviceName": text("Kind of device."),
    "deviceBrand": text("Its maker."),
    "deviceModel": text("Its model."),
    "countryCode": text("Always `--`: addresses are not looked up."),
    "countryName": text("Always `Unknown`."),
    "current": flag("Whether it is the session of this call."),
    "factors": texts("What it was opened with."),
    "secret": text("The session itself, in the answer that made it and for servers only; empty otherwise."),
    "mfaUpdatedAt": maybe_date("Never set."),
}

PEOPLE_MODELS: dict[str, Schema] = {
    "account": record("The caller's own account.", _ACCOUNT),
    "user": record(
        "A user.",
        {
            **_ACCOUNT,
            "password": text("Hash of the password; empty: none."),
            "hash": text("How it was hashed."),
            "hashOptions": _HASHING,
        },
    ),
    "userList": listing("users", "user", "A page of users."),
    "preferences": _PREFS,
    "session": record("A signed-in client of a user.", _SESSION),
    "sessionList": listing("sessions", "session", "All sessions."),
    "jwt": record("A JSON web token.", {"jwt": text("The token.")}),
    "token": record(
        "A secret that can be exchanged for a session, once.",
        {
            "$id": text("Token ID."),
            "$createdAt": date("When it was created."),
            "userId": text("User ID."),
            "secret": text("The secret, in the answer that made it."),
            "expire": date("When it ends."),
            "phrase": text("Always empty."),
        },
    ),
    "mfaFactors": record(
        "Which second factors an account has.",
        {
            "totp": flag("Always false."),
            "phone": flag("Always false."),
            "email": flag("Always false."),
            "recoveryCode": flag("Always false."),
            "custom": flag("Always false."),
        },
    ),
    "team": record(
        "A team; in the console, an organization.",
        {
            **resource("Team"),
            "name": text("Name."),
            "total": number("Confirmed members."),
            "prefs": _PREFS,
        },
    ),
    "teamList": listing("teams", "team", "A page of teams."),
    "membership": record(
        "A user in a team.",
        {
            **resource("Membership"),
            "userId": text("User ID."),
            "userName": text("Name of the user; empty for who may not know it."),
            "userEmail": text("E-mail address of the user; empty for who may not know it."),
            "userPhone": text("Phone number of the user; empty for who may not know it."),
            "teamId": text("Team ID."),
            "teamName": text("Name of the team."),
            "invited": date("When the user was invited."),
            "joined": maybe_date("When the user joined."),
            "confirm": flag("Whether the user has joined."),
            "mfa": flag("Always false."),
            "userAccessedAt": maybe_date("When the user was last here, to the day."),
            "roles": texts("Roles in the team."),
        },
    ),
    "membershipList": listing("memberships", "membership", "A page of memberships."),
}

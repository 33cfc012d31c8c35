// People by the official Node SDK: users, teams, sessions, and executions by whoever may; what was seen, as JSON.
// `people.mjs REQUEST_JSON`. The function exists and answers with the headers it is told of its caller.

const given = JSON.parse(process.argv[2]);
const { Client, Account, Functions, Query, Teams, Users } = await import(given.sdk);

const PASSWORD = 'correct horse';
// Arguments are given by name; versions that know no object take them in this order.
const ORDER = {
    'users.create': ['userId', 'email', 'phone', 'password', 'name'],
    'users.updateLabels': ['userId', 'labels'],
    'users.updateEmailVerification': ['userId', 'emailVerification'],
    'users.updatePrefs': ['userId', 'prefs'],
    'users.updateStatus': ['userId', 'status'],
    'users.list': ['queries'],
    'teams.create': ['teamId', 'name'],
    'teams.createMembership': ['teamId', 'roles', 'email', 'userId'],
    'account.createEmailPasswordSession': ['email', 'password'],
    'functions.update': [
        'functionId', 'name', 'runtime', 'execute', 'events', 'schedule', 'timeout', 'enabled', 'logging', 'entrypoint',
    ],
};
function named(name, service) {
    if (given.objects) return service;
    const call = (method) => (given) => {
        if (given === undefined) return service[method]();
        const order = ORDER[`${name}.${method}`] ?? Object.keys(given);
        return service[method](...order.map((key) => given[key]));
    };
    return new Proxy(service, { get: (_, method) => call(method) });
}
const client = () => new Client().setEndpoint(given.endpoint).setProject(given.project);
const attempt = async (call) => {
    try {
        return await call();
    } catch (error) {
        return { refused: error.type, code: error.code };
    }
};

const server = client().setKey(given.key);
const [users, teams, functions] = [named('users', new Users(server)), named('teams', new Teams(server)), named('functions', new Functions(server))];
const [ann, bob, team] = ['ann', 'bob', 'team'].map((name) => `${given.tag}-${name}`);
const seen = { version: server.headers['x-sdk-version'] };

seen.user = await users.create({ userId: ann, email: `${ann}@example.com`, password: PASSWORD, name: 'Ann' });
await users.create({ userId: bob, email: `${bob}@example.com`, password: PASSWORD, name: 'Bob' });
await users.updateLabels({ userId: ann, labels: ['vip'] });
await users.updateEmailVerification({ userId: ann, emailVerification: true });
await users.updatePrefs({ userId: ann, prefs: { theme: 'dark' } });
seen.prefs = await users.getPrefs({ userId: ann });
seen.found = await users.list({ queries: [Query.equal('email', [`${ann}@example.com`])] });
seen.team = await teams.create({ teamId: team, name: 'Team' });
seen.membership = await teams.createMembership({ teamId: team, roles: ['player'], userId: ann });
seen.members = await teams.listMemberships({ teamId: team });
seen.memberships = await users.listMemberships({ userId: ann });

// Server-side rendering: the server signs the user in and gets the secret.
seen.signed_in = await named('account', new Account(server)).createEmailPasswordSession({
    email: `${ann}@example.com`, password: PASSWORD,
});
const session = client().setSession(seen.signed_in.secret);
const account = named('account', new Account(session));
seen.account = await account.get();
seen.sessions = await account.listSessions();
const { jwt } = await account.createJWT();
const bobs = client().setSession((await users.createSession({ userId: bob })).secret);
const callers = { key: server, ann: session, 'ann-jwt': client().setJWT(jwt), bob: bobs, guest: client() };
seen.runs = {};
const roles = [
    ['any'], ['guests'], ['users'], [`user:${ann}`], [`team:${team}/player`], ['label:vip'],
    [`member:${seen.membership.$id}`], [],
];
for (const execute of roles) {
    await functions.update({ functionId: given.function, name: 'Who', execute, entrypoint: given.entrypoint });
    const runs = (seen.runs[execute.join(',')] = {});
    for (const [name, caller] of Object.entries(callers)) {
        runs[name] = await attempt(() => named('functions', new Functions(caller)).createExecution({ functionId: given.function }));
    }
}
seen.own = await named('functions', new Functions(session)).listExecutions({ functionId: given.function });
seen.strange = await attempt(() => named('teams', new Teams(bobs)).get({ teamId: team }));
await account.deleteSession({ sessionId: 'current' });
seen.signed_out = await attempt(() => account.get());
await users.updateStatus({ userId: bob, status: false });
seen.blocked = await attempt(() => named('account', new Account(bobs)).get());
await teams.delete({ teamId: team });
for (const userId of [ann, bob]) {
    await users.delete({ userId });
}
seen.deleted = await attempt(() => users.get({ userId: ann }));
console.log(JSON.stringify(seen));

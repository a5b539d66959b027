/* The cycle on PostgreSQL: pg_advisory_lock, INSERT, pg_advisory_unlock, prepared, over TCP.
 * Work: "on" or "off", the synchronous_commit of the sessions. */
#include "load.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

struct state {
    PGconn *conn;
    char *data;
};

static void check(struct state *state, PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        load_fail("postgres", PQerrorMessage(state->conn));
    }
    PQclear(result);
}

static void prepare(struct state *state, const char *name, const char *sql) {
    check(state, PQprepare(state->conn, name, sql, 0, NULL));
}

void peer_open(struct load_client *client) {
    struct state *state = load_memory(sizeof *state);
    char text[256];
    snprintf(text, sizeof text, "host=%s port=%d user=baton dbname=postgres sslmode=disable",
             client->options->host, client->options->port);
    state->conn = PQconnectdb(text);
    if (PQstatus(state->conn) != CONNECTION_OK) {
        load_fail("postgres", PQerrorMessage(state->conn));
    }
    if (client->number == 0) {
        check(state, PQexec(state->conn, "SET client_min_messages = warning"));
        check(state, PQexec(state->conn, "CREATE TABLE IF NOT EXISTS log "
                                         "(id bigserial PRIMARY KEY, data bytea NOT NULL)"));
    }
    snprintf(text, sizeof text, "SET synchronous_commit = %s", client->options->work);
    check(state, PQexec(state->conn, text));
    prepare(state, "lock", "SELECT pg_advisory_lock(1)");
    prepare(state, "append", "INSERT INTO log (data) VALUES ($1::bytea)");
    prepare(state, "unlock", "SELECT pg_advisory_unlock(1)");
    state->data = load_memory(client->options->size);
    memset(state->data, 'x', client->options->size);
    client->state = state;
}

static void run(struct state *state, const char *name, size_t size) {
    const char *values[] = {state->data};
    int lengths[] = {(int)size}, formats[] = {1};
    int count = size > 0;
    check(state, PQexecPrepared(state->conn, name, count, values, lengths, formats, 1));
}

void peer_cycle(struct load_client *client) {
    struct state *state = client->state;
    run(state, "lock", 0);
    run(state, "append", client->options->size);
    run(state, "unlock", 0);
}

void peer_close(struct load_client *client) {
    struct state *state = client->state;
    PQfinish(state->conn);
}

/* The cycle on Redis. Work:
 *   set    SET NX, APPEND, compare-and-delete by a script: the usual lock, for one client
 *   queue  BLPOP of the one token, APPEND, RPUSH: fair, longest waiting first, for contention */
#include "load.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char SCRIPT[] = "if redis.call('GET', KEYS[1]) == ARGV[1] then "
                             "return redis.call('DEL', KEYS[1]) else return 0 end";

struct state {
    redisContext *redis;
    char sha[64], token[32];
    char *data;
};

static redisReply *checked(struct state *state, redisReply *reply) {
    if (reply == NULL) load_fail("redis", state->redis->errstr);
    if (reply->type == REDIS_REPLY_ERROR) load_fail("redis", reply->str);
    return reply;
}

void peer_open(struct load_client *client) {
    struct state *state = load_memory(sizeof *state);
    state->redis = redisConnect(client->options->host, client->options->port);
    if (state->redis == NULL || state->redis->err) load_fail("redis", "cannot connect");
    redisReply *reply = checked(state, redisCommand(state->redis, "SCRIPT LOAD %s", SCRIPT));
    snprintf(state->sha, sizeof state->sha, "%s", reply->str);
    freeReplyObject(reply);
    if (client->number == 0) {
        freeReplyObject(checked(state, redisCommand(state->redis, "DEL lock queue")));
        freeReplyObject(checked(state, redisCommand(state->redis, "RPUSH queue token")));
    }
    snprintf(state->token, sizeof state->token, "client-%d", client->number);
    state->data = load_memory(client->options->size);
    memset(state->data, 'x', client->options->size);
    client->state = state;
}

void peer_cycle(struct load_client *client) {
    struct state *state = client->state;
    size_t size = client->options->size;
    int is_queue = strcmp(client->options->work, "queue") == 0;
    if (is_queue) {
        freeReplyObject(checked(state, redisCommand(state->redis, "BLPOP queue 0")));
    } else {
        redisReply *reply;
        int is_taken;
        do {
            reply = checked(state, redisCommand(state->redis, "SET lock %s NX PX 30000",
                                                state->token));
            is_taken = reply->type == REDIS_REPLY_NIL;
            freeReplyObject(reply);
        } while (is_taken);
    }
    freeReplyObject(checked(state, redisCommand(state->redis, "APPEND file_0 %b", state->data,
                                                size)));
    if (is_queue) {
        freeReplyObject(checked(state, redisCommand(state->redis, "RPUSH queue token")));
    } else {
        freeReplyObject(checked(state, redisCommand(state->redis, "EVALSHA %s 1 lock %s",
                                                    state->sha, state->token)));
    }
}

void peer_close(struct load_client *client) {
    struct state *state = client->state;
    redisFree(state->redis);
}

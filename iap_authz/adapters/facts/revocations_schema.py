# SPDX-License-Identifier: Apache-2.0
"""The tables that revocations are kept in, in PostgreSQL 13 or newer.

The invariant: whatever is written to `revocations`, by whatever program, the revision is another one once it is
committed; and what a sidecar reads together was there together.

    iap_authz.revocations           an entry a row; what could mean nothing, or two things, is refused by constraints
    iap_authz.revocations_revision  one row: how many writes there were, and an id of the last one

    INSERT, UPDATE, DELETE, TRUNCATE on revocations  --trigger, once a statement-->  revision + 1, change = a new id
    UPDATE on revocations_revision                   --trigger-->  must not go down
    DELETE, TRUNCATE on revocations_revision         --trigger-->  refused

The row of the revision is locked until its writer commits, so revisions become visible in their order, and none is
given twice. The id is for a server that was restored, or failed over, and has lost writes: it gives out a number again
that sidecars have seen, and the id says that it is not the same.

The trigger runs as the owner of the tables, so whoever may write entries need not be able to write the revision. Other
roles are granted what they need by the operator: sidecars USAGE on the schema and SELECT on both tables.

Deliberately not here: an index, since sidecars read everything; and keys that make two equal entries impossible, since
they mean what one means.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, MetaData, Table, Text, Uuid

metadata = MetaData(schema="iap_authz")

revocations = Table(
    "revocations",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("before", DateTime(timezone=True)),
    Column("until", DateTime(timezone=True)),
    Column("added", DateTime(timezone=True), nullable=False),
    Column("added_by", Text, nullable=False),
)

revision = Table(
    "revocations_revision",
    metadata,
    Column("single", BigInteger, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("change", Uuid, nullable=False),
)

SCHEMA: Final = """\
CREATE SCHEMA IF NOT EXISTS iap_authz;

CREATE TABLE IF NOT EXISTS iap_authz.revocations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CONSTRAINT known_kind CHECK (kind IN
        ('sub', 'sid', 'jti', 'kid', 'api_key', 'certificate_sha256', 'certificate_serial')),
    issuer text NOT NULL DEFAULT '' CONSTRAINT bounded_issuer CHECK (char_length(issuer) <= 4096),
    value text NOT NULL CONSTRAINT bounded_value CHECK (char_length(value) BETWEEN 1 AND 4096),
    before timestamptz CONSTRAINT datable_before CHECK (before >= '0001-01-01Z' AND before < '10000-01-01Z'),
    until timestamptz CONSTRAINT datable_until CHECK (until >= '0001-01-01Z' AND until < '10000-01-01Z'),
    added timestamptz NOT NULL DEFAULT now(),
    added_by text NOT NULL DEFAULT session_user,
    CONSTRAINT issuer_where_it_means_something
        CHECK ((issuer = '') = (kind IN ('api_key', 'certificate_sha256'))),
    CONSTRAINT before_where_it_means_something CHECK (before IS NULL OR kind IN ('sub', 'sid')),
    CONSTRAINT form_of_api_key CHECK (kind <> 'api_key' OR value ~ '^[0-9a-f]{16}$'),
    CONSTRAINT form_of_certificate_sha256 CHECK (kind <> 'certificate_sha256' OR value ~ '^[0-9a-f]{64}$'),
    CONSTRAINT form_of_certificate_serial
        CHECK (kind <> 'certificate_serial' OR (value ~ '^([0-9a-f]{2}){1,64}$' AND value !~ '^00')),
    CONSTRAINT form_of_certificate_issuer CHECK (kind <> 'certificate_serial' OR issuer ~ '=')
);

CREATE TABLE IF NOT EXISTS iap_authz.revocations_revision (
    single bigint PRIMARY KEY DEFAULT 1 CONSTRAINT one_row CHECK (single = 1),
    revision bigint NOT NULL DEFAULT 0 CONSTRAINT countable CHECK (revision >= 0),
    change uuid NOT NULL DEFAULT gen_random_uuid()
);

INSERT INTO iap_authz.revocations_revision DEFAULT VALUES ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION iap_authz.advance_revision() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    UPDATE iap_authz.revocations_revision SET revision = revision + 1, change = gen_random_uuid();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'iap_authz.revocations_revision has no row: run iap-authz revocations init';
    END IF;
    RETURN NULL;
END
$function$;
REVOKE ALL ON FUNCTION iap_authz.advance_revision() FROM PUBLIC;

CREATE OR REPLACE FUNCTION iap_authz.keep_revision() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF TG_OP <> 'UPDATE' THEN
        RAISE EXCEPTION 'the revision of revocations cannot be removed';
    ELSIF NEW.revision < OLD.revision THEN
        RAISE EXCEPTION 'got revision %, want at least %', NEW.revision, OLD.revision;
    END IF;
    RETURN NEW;
END
$function$;
REVOKE ALL ON FUNCTION iap_authz.keep_revision() FROM PUBLIC;

DROP TRIGGER IF EXISTS advance_revision ON iap_authz.revocations;
CREATE TRIGGER advance_revision AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON iap_authz.revocations
    FOR EACH STATEMENT EXECUTE FUNCTION iap_authz.advance_revision();
ALTER TABLE iap_authz.revocations ENABLE ALWAYS TRIGGER advance_revision;

DROP TRIGGER IF EXISTS keep_revision ON iap_authz.revocations_revision;
CREATE TRIGGER keep_revision BEFORE UPDATE OR DELETE ON iap_authz.revocations_revision
    FOR EACH ROW EXECUTE FUNCTION iap_authz.keep_revision();
ALTER TABLE iap_authz.revocations_revision ENABLE ALWAYS TRIGGER keep_revision;

DROP TRIGGER IF EXISTS keep_revision_row ON iap_authz.revocations_revision;
CREATE TRIGGER keep_revision_row BEFORE TRUNCATE ON iap_authz.revocations_revision
    FOR EACH STATEMENT EXECUTE FUNCTION iap_authz.keep_revision();
ALTER TABLE iap_authz.revocations_revision ENABLE ALWAYS TRIGGER keep_revision_row;
"""
"""Run in one transaction. A second time it changes nothing, but puts functions and triggers back that were changed."""

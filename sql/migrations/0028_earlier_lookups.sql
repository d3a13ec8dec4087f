-- What a lookup of an earlier version adopted is a guess too, which evidence takes back and a person corrects. What was
-- never looked for was answered, and where the audit log has a person's resolution, that is how it is known. They are few:
-- each is an answer that was lost.

-- compatible-from: 0021
-- migrate:up
UPDATE batches AS b
SET known_by = CASE WHEN 'upload ' || b.batch_key IN (SELECT l.subject FROM audit_log AS l
                                                      WHERE l.action = 'resolution' AND l.outcome = 'uploaded')
                    THEN 'person' ELSE 'lookup' END
WHERE b.origin = 'upload' AND b.upload_state = 'uploaded' AND b.lookups > 0 AND b.known_by IS NULL;

-- migrate:down
SELECT 1;  -- the version before reads these rows as they are

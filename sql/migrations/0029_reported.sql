-- The figure that the provider reported is called "reported" in what a comparison stores. Only comparisons that found the
-- provider's figures incomplete or contradictory have it: few.

-- compatible-from: 0021
-- migrate:up
UPDATE reconciliations AS r
SET inconsistencies = replace(r.inconsistencies::text, '"told":', '"reported":')::jsonb,
    reasons = replace(r.reasons::text, '"not_told"', '"not_reported"')::jsonb,
    differences = replace(r.differences::text, '"not_told"', '"not_reported"')::jsonb
WHERE r.inconsistencies <> '[]'
   OR r.reasons @> '[{"code": "not_told"}]'
   OR r.differences @> '[{"reason": "not_told"}]';

-- migrate:down
SELECT 1;  -- the version before only stores and shows these words

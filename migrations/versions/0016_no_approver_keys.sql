-- Who may approve with which key is the engine's roster to say, in its journal. This copy was never read.
DROP TABLE approver_keys;

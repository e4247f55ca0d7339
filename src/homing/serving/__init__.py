"""A model behind the OpenAI API's embeddings, with scores, probabilities and decisions beside them.

| module | holds |
|---|---|
| `served` | what is served: the model's sides, their names and fingerprints, its decision |
| `requests`, `refusals` | what a request asks for, and what is answered in place of a result |
| `batching` | requests that wait, tokenised and encoded together |
| `application` | the routes |
| `metrics`, `logs` | figures and lines, never a text |
| `running` | the server, from its start to the last answer |
"""

from homing.serving.running import Server, demand_address, serve

__all__ = ["Server", "demand_address", "serve"]

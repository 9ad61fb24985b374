"""The SDK of Quorumflow: submit DAGs of tasks with `Client`, run them with `Agent`.

from agent_sdk import Agent, Client, Dag, Task

agent = Agent("localhost:7400")

@agent.handler("greet")
def greet(context):
    return f"hello {context.payload.decode()}"

agent.run()                                       # in one process

with Client("localhost:7400") as client:          # in another one
    dag_id = client.submit(Dag().add(Task(id="a", type="greet", payload="world")))
    print(client.wait(dag_id).state, client.result(dag_id, "a").text)
"""

from agent_sdk._agent import Agent
from agent_sdk._async_client import AsyncClient
from agent_sdk._client import Client
from agent_sdk._context import TaskContext
from agent_sdk._dag import (
    CommunicationNeeds,
    ComputeNeeds,
    Dag,
    Data,
    IoNeeds,
    ModelNeeds,
    Requires,
    Resources,
    Retry,
    Task,
    ToolNeeds,
)
from agent_sdk._outcome import Reference
from agent_sdk._submit import SubmitSettings
from agent_sdk.errors import PermanentError, QuorumflowError, StaleVersion, TaskCancelled
from agent_sdk.types import (
    AgentEvent,
    AgentStatus,
    Assignment,
    AttemptStatus,
    ClusterStatus,
    DagEvent,
    DagStatus,
    Decision,
    Event,
    Explanation,
    GroupStatus,
    KvEvent,
    KvItem,
    MemberStatus,
    Namespace,
    NodeStatus,
    Refusal,
    Reservation,
    TaskEvent,
    TaskResult,
    TaskStatus,
)

__all__ = [
    "Agent",
    "AgentEvent",
    "AgentStatus",
    "Assignment",
    "AsyncClient",
    "AttemptStatus",
    "Client",
    "ClusterStatus",
    "CommunicationNeeds",
    "ComputeNeeds",
    "Dag",
    "DagEvent",
    "DagStatus",
    "Data",
    "Decision",
    "Event",
    "Explanation",
    "GroupStatus",
    "IoNeeds",
    "KvEvent",
    "KvItem",
    "MemberStatus",
    "ModelNeeds",
    "Namespace",
    "NodeStatus",
    "PermanentError",
    "QuorumflowError",
    "Reference",
    "Refusal",
    "Requires",
    "Reservation",
    "Resources",
    "Retry",
    "StaleVersion",
    "SubmitSettings",
    "Task",
    "TaskCancelled",
    "TaskContext",
    "TaskEvent",
    "TaskResult",
    "TaskStatus",
    "ToolNeeds",
]

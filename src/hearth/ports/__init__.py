"""The seams: what control, jobs and the API ask of the rooms below them. No behaviour; one module for each room.

Implementations live in `hearth.store`, `hearth.build`, `hearth.executor`, `hearth.runtimes`, `hearth.vcs` and
`hearth.auth`; only `hearth.app` names them. Everybody imports from here.
"""

from hearth.ports.durability import Attempts as Attempts
from hearth.ports.durability import DeadLetters as DeadLetters
from hearth.ports.durability import ExecutionBodies as ExecutionBodies
from hearth.ports.durability import IdempotencyKeys as IdempotencyKeys
from hearth.ports.durability import JobQueue as JobQueue
from hearth.ports.durability import Usage as Usage
from hearth.ports.files import FileNotStored as FileNotStored
from hearth.ports.files import Files as Files
from hearth.ports.git_hosts import BadSignature as BadSignature
from hearth.ports.git_hosts import GitHost as GitHost
from hearth.ports.git_hosts import GitHostFailed as GitHostFailed
from hearth.ports.git_hosts import GitReader as GitReader
from hearth.ports.git_hosts import NoSuchRepository as NoSuchRepository
from hearth.ports.outside import Clock as Clock
from hearth.ports.outside import Events as Events
from hearth.ports.outside import Posted as Posted
from hearth.ports.outside import Poster as Poster
from hearth.ports.outside import PostFailed as PostFailed
from hearth.ports.people import Memberships as Memberships
from hearth.ports.people import Sessions as Sessions
from hearth.ports.people import Teams as Teams
from hearth.ports.people import Tokens as Tokens
from hearth.ports.people import Users as Users
from hearth.ports.rows import PULL_REQUESTS_MAX as PULL_REQUESTS_MAX
from hearth.ports.rows import Conflict as Conflict
from hearth.ports.rows import CursorNotFound as CursorNotFound
from hearth.ports.rows import Deployments as Deployments
from hearth.ports.rows import Executions as Executions
from hearth.ports.rows import Functions as Functions
from hearth.ports.rows import FunctionSettingsRows as FunctionSettingsRows
from hearth.ports.rows import Installations as Installations
from hearth.ports.rows import Keys as Keys
from hearth.ports.rows import Page as Page
from hearth.ports.rows import Platforms as Platforms
from hearth.ports.rows import RepositoryLinks as RepositoryLinks
from hearth.ports.rows import Rules as Rules
from hearth.ports.rows import Variables as Variables
from hearth.ports.rows import Webhooks as Webhooks
from hearth.ports.running import Builder as Builder
from hearth.ports.running import Executor as Executor
from hearth.ports.running import Fetcher as Fetcher
from hearth.ports.running import Runtimes as Runtimes
from hearth.ports.running import SourceUnavailable as SourceUnavailable
from hearth.ports.store import ANYTHING_CHANGED as ANYTHING_CHANGED
from hearth.ports.store import Accepted as Accepted
from hearth.ports.store import AttemptEnded as AttemptEnded
from hearth.ports.store import ChangedElsewhere as ChangedElsewhere
from hearth.ports.store import Claimed as Claimed
from hearth.ports.store import ExecutionLog as ExecutionLog
from hearth.ports.store import ExecutionQueue as ExecutionQueue
from hearth.ports.store import Listeners as Listeners
from hearth.ports.store import Listening as Listening
from hearth.ports.store import MemoryKind as MemoryKind
from hearth.ports.store import Projects as Projects
from hearth.ports.store import Scheduled as Scheduled
from hearth.ports.store import Schedules as Schedules
from hearth.ports.store import Store as Store
from hearth.ports.store import Unit as Unit

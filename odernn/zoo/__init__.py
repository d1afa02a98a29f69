"""Known networks."""

from . import _cells, _certified, _linear, _liquid, _memories, _quantum, _stable, _units
from ._cells import GRU as GRU
from ._cells import LEM as LEM
from ._cells import LSTM as LSTM
from ._cells import RNN as RNN
from ._cells import AntisymmetricRNN as AntisymmetricRNN
from ._cells import coRNN as coRNN
from ._certified import ConservativeRNN as ConservativeRNN
from ._certified import ContractingCoRNN as ContractingCoRNN
from ._certified import ContractingLipschitzRNN as ContractingLipschitzRNN
from ._certified import ContractingRNN as ContractingRNN
from ._certified import ContractingUGRNN as ContractingUGRNN
from ._certified import GradientFlowRNN as GradientFlowRNN
from ._certified import SelectiveRotationRNN as SelectiveRotationRNN
from ._linear import LMU as LMU
from ._linear import LRU as LRU
from ._linear import S4D as S4D
from ._linear import S5 as S5
from ._linear import HiPPOLegS as HiPPOLegS
from ._linear import LinOSSIM as LinOSSIM
from ._linear import LinOSSIMEX as LinOSSIMEX
from ._liquid import LTC as LTC
from ._liquid import CfC as CfC
from ._liquid import CfCNoGate as CfCNoGate
from ._liquid import CfCPure as CfCPure
from ._memories import MCLSTM as MCLSTM
from ._memories import NAS as NAS
from ._memories import RAN as RAN
from ._memories import SCRN as SCRN
from ._memories import TLSTM as TLSTM
from ._memories import WMCLSTM as WMCLSTM
from ._memories import IntersectionRNN as IntersectionRNN
from ._memories import MomentumRNN as MomentumRNN
from ._memories import MultiplicativeLSTM as MultiplicativeLSTM
from ._memories import OriginalLSTM as OriginalLSTM
from ._memories import PeepholeLSTM as PeepholeLSTM
from ._memories import ResLSTM as ResLSTM
from ._memories import UnICORNN as UnICORNN
from ._network import Network as Network
from ._quantum import QUNN as QUNN
from ._stable import ESN as ESN
from ._stable import EuSN as EuSN
from ._stable import FullCapacityuRNN as FullCapacityuRNN
from ._stable import GatedAntisymmetricRNN as GatedAntisymmetricRNN
from ._stable import IncrementalRNN as IncrementalRNN
from ._stable import LipschitzGatedRNN as LipschitzGatedRNN
from ._stable import LipschitzRNN as LipschitzRNN
from ._stable import expRNN as expRNN
from ._stable import scoRNN as scoRNN
from ._stable import uRNN as uRNN
from ._units import ATR as ATR
from ._units import BR as BR
from ._units import CFN as CFN
from ._units import CTRNN as CTRNN
from ._units import DSGU as DSGU
from ._units import GRUODE as GRUODE
from ._units import JANET as JANET
from ._units import MGU as MGU
from ._units import MUT1 as MUT1
from ._units import MUT2 as MUT2
from ._units import MUT3 as MUT3
from ._units import NBR as NBR
from ._units import SGRN as SGRN
from ._units import SGU as SGU
from ._units import STAR as STAR
from ._units import TGRU as TGRU
from ._units import TRNN as TRNN
from ._units import UGRNN as UGRNN
from ._units import FastGRNN as FastGRNN
from ._units import FastRNN as FastRNN
from ._units import GRUReset as GRUReset
from ._units import IndRNN as IndRNN
from ._units import LightRU as LightRU
from ._units import LiGRU as LiGRU
from ._units import MinimalRNN as MinimalRNN
from ._units import MiRU1 as MiRU1
from ._units import MiRU2 as MiRU2
from ._units import minGRU as minGRU
from ._units import minLSTM as minLSTM
from ._units import tauGRU as tauGRU

_FAMILIES = (
    _cells,
    _units,
    _memories,
    _stable,
    _liquid,
    _linear,
    _certified,
    _quantum,
)
CELLS: dict[str, Network] = {
    network.name.lower(): network for family in _FAMILIES for network in family.NETWORKS
}
"""The networks of the zoo by lower-case name."""
